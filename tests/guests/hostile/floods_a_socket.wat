;; Sends messages of 60 KiB until one is refused, and reads none. Returns the refusal.
(component
  (import "catalyst:host/websocket@0.1.0" (instance $websocket
    (export "connect" (func (param "json-request" string) (result string)))
    (export "send" (func (param "handle" string) (param "json-message" string) (result string)))))
  (core module $memory
    (memory (export "memory") 16)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $connect (canon lower (func $websocket "connect") (memory $memory) (realloc $realloc)))
  (core func $send (canon lower (func $websocket "send") (memory $memory) (realloc $realloc)))
  (core module $guest
    (memory (import "memory" "memory") 16)
    (func $connect (import "host" "connect") (param i32 i32 i32))
    (func $send (import "host" "send") (param i32 i32 i32 i32 i32))
    (data (i32.const 16) "{\22url\22:\22wss://api.test/x\22}")
    (data (i32.const 8192) "{\22text\22:\22")
    (func (export "run") (param i32 i32) (result i32)
      (call $connect (i32.const 16) (i32.const 26) (i32.const 0))
      (memory.copy (i32.const 1024) (i32.const 4107) (i32.const 35)) ;; the handle, behind {"handle":"
      (memory.fill (i32.const 8201) (i32.const 120) (i32.const 61440))
      (i32.store16 (i32.const 69641) (i32.const 0x7d22))
      (loop $again
        (call $send (i32.const 1024) (i32.const 35) (i32.const 8192) (i32.const 61451) (i32.const 0))
        (br_if $again (i32.ne (i32.load8_u (i32.const 4098)) (i32.const 101)))) ;; the e of {"error
      (i32.const 0)))
  (core instance $g (instantiate $guest
    (with "memory" (instance $m))
    (with "host" (instance
      (export "connect" (func $connect))
      (export "send" (func $send))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $g "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
