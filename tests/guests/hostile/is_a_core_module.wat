;; Is WebAssembly, but no component.
(module)
