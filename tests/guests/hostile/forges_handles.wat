;; Reads and closes streams that it never opened. Returns the answer to the last read.
(component
  (import "cyfr:http/streaming@0.1.0" (instance $streaming
    (export "read" (func (param "handle" string) (result string)))
    (export "close" (func (param "handle" string) (result string)))))
  (core module $memory
    (memory (export "memory") 16)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $streaming.read (canon lower (func $streaming "read") (memory $memory) (realloc $realloc)))
  (core func $streaming.close (canon lower (func $streaming "close") (memory $memory) (realloc $realloc)))
  (core module $guest
    (memory (import "memory" "memory") 16)
    (func $streaming.read (import "host" "streaming.read") (param i32 i32 i32))
    (func $streaming.close (import "host" "streaming.close") (param i32 i32 i32))
    (data (i32.const 16) "0" "1" "../../1" "\f0\9f\94\91" "{\22handle\22:1}")
    (func $try (param $at i32) (param $length i32)
      (call $streaming.close (local.get $at) (local.get $length) (i32.const 0))
      (call $streaming.read (local.get $at) (local.get $length) (i32.const 0)))
    (func (export "run") (param i32 i32) (result i32)
      (call $try (i32.const 16) (i32.const 1))
      (call $try (i32.const 17) (i32.const 1))
      (call $try (i32.const 18) (i32.const 7))
      (call $try (i32.const 25) (i32.const 4))
      (call $try (i32.const 29) (i32.const 12))
      (call $try (i32.const 16) (i32.const 0))
      (call $try (i32.const 65536) (i32.const 65536))
      (i32.const 0)))
  (core instance $g (instantiate $guest
    (with "memory" (instance $m))
    (with "host" (instance
      (export "streaming.read" (func $streaming.read))
      (export "streaming.close" (func $streaming.close))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $g "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
