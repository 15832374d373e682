;; Exports `run` with another type: a number for the input.
(component
  (core module $guest
    (memory (export "memory") 1)
    (func (export "run") (param i32) (result i32) (i32.const 0)))
  (core instance $m (instantiate $guest))
  (alias core export $m "memory" (core memory $memory))
  (func $run (param "input" u32) (result string) (canon lift (core func $m "run") (memory $memory)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
