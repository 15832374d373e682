;; Makes handles of a resource of its own without end.
(component
  (type $mine (resource (rep i32)))
  (core func $new (canon resource.new $mine))
  (core module $code
    (func $new (import "host" "new") (param i32) (result i32))
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "run") (param i32 i32) (result i32)
      (loop $again
        (drop (call $new (i32.const 1)))
        (br $again))
      (unreachable)))
  (core instance $c (instantiate $code (with "host" (instance (export "new" (func $new))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $c "run") (memory (core memory $c "memory")) (realloc (core func $c "cabi_realloc"))))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
