;; Fetches `{}` without end.
(component
  (import "cyfr:http/fetch@0.1.0" (instance $fetch (export "request" (func (param "json-request" string) (result string)))))
  (core module $memory
    (memory (export "memory") 16)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $fetch.request (canon lower (func $fetch "request") (memory $memory) (realloc $realloc)))
  (core module $guest
    (memory (import "memory" "memory") 16)
    (func $fetch.request (import "host" "fetch.request") (param i32 i32 i32))
    (data (i32.const 16) "{}")
    (func (export "run") (param i32 i32) (result i32)
      (loop $again
        (call $fetch.request (i32.const 16) (i32.const 2) (i32.const 0))
        (br $again))
      (unreachable)))
  (core instance $g (instantiate $guest
    (with "memory" (instance $m))
    (with "host" (instance (export "fetch.request" (func $fetch.request))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $g "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
