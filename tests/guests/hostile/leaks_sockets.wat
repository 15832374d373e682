;; Opens sixteen WebSockets and closes none. Returns the answer to the last attempt.
(component
  (import "catalyst:host/websocket@0.1.0" (instance $websocket
    (export "connect" (func (param "json-request" string) (result string)))))
  (core module $memory
    (memory (export "memory") 16)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $connect (canon lower (func $websocket "connect") (memory $memory) (realloc $realloc)))
  (core module $guest
    (memory (import "memory" "memory") 16)
    (func $connect (import "host" "connect") (param i32 i32 i32))
    (data (i32.const 16) "{\22url\22:\22wss://api.test/x\22}")
    (func (export "run") (param i32 i32) (result i32)
      (local $left i32)
      (local.set $left (i32.const 16))
      (loop $again
        (call $connect (i32.const 16) (i32.const 26) (i32.const 0))
        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (i32.const 0)))
  (core instance $g (instantiate $guest
    (with "memory" (instance $m))
    (with "host" (instance
      (export "connect" (func $connect))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $g "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
