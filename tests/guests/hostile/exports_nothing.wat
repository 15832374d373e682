;; Has nothing to run.
(component)
