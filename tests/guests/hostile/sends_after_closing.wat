;; Closes its WebSocket, and then sends a message and waits for one. Returns the answer to the last.
(component
  (import "catalyst:host/websocket@0.1.0" (instance $websocket
    (export "connect" (func (param "json-request" string) (result string)))
    (export "send" (func (param "handle" string) (param "json-message" string) (result string)))
    (export "receive" (func (param "handle" string) (param "timeout-ms" u32) (result string)))
    (export "close" (func (param "handle" string) (result string)))))
  (core module $memory
    (memory (export "memory") 16)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $connect (canon lower (func $websocket "connect") (memory $memory) (realloc $realloc)))
  (core func $send (canon lower (func $websocket "send") (memory $memory) (realloc $realloc)))
  (core func $receive (canon lower (func $websocket "receive") (memory $memory) (realloc $realloc)))
  (core func $close (canon lower (func $websocket "close") (memory $memory) (realloc $realloc)))
  (core module $guest
    (memory (import "memory" "memory") 16)
    (func $connect (import "host" "connect") (param i32 i32 i32))
    (func $send (import "host" "send") (param i32 i32 i32 i32 i32))
    (func $receive (import "host" "receive") (param i32 i32 i32 i32))
    (func $close (import "host" "close") (param i32 i32 i32))
    (data (i32.const 16) "{\22url\22:\22wss://api.test/x\22}")
    (data (i32.const 64) "{\22text\22:\22late\22}")
    (func (export "run") (param i32 i32) (result i32)
      (call $connect (i32.const 16) (i32.const 26) (i32.const 0))
      (memory.copy (i32.const 1024) (i32.const 4107) (i32.const 35)) ;; the handle, behind {"handle":"
      (call $close (i32.const 1024) (i32.const 35) (i32.const 0))
      (call $send (i32.const 1024) (i32.const 35) (i32.const 64) (i32.const 15) (i32.const 0))
      (call $receive (i32.const 1024) (i32.const 35) (i32.const 60000) (i32.const 0))
      (i32.const 0)))
  (core instance $g (instantiate $guest
    (with "memory" (instance $m))
    (with "host" (instance
      (export "connect" (func $connect))
      (export "send" (func $send))
      (export "receive" (func $receive))
      (export "close" (func $close))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $g "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
