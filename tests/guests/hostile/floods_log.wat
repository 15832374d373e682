;; Logs a kilobyte without end.
(component
  (import "catalyst:host/log@0.1.0" (instance $log (export "write" (func (param "level" string) (param "message" string)))))
  (core module $memory
    (memory (export "memory") 16)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $log.write (canon lower (func $log "write") (memory $memory) (realloc $realloc)))
  (core module $guest
    (memory (import "memory" "memory") 16)
    (func $log.write (import "host" "log.write") (param i32 i32 i32 i32))
    (data (i32.const 16) "info")
    (func (export "run") (param i32 i32) (result i32)
      (memory.fill (i32.const 32) (i32.const 0x61) (i32.const 1024))
      (loop $again
        (call $log.write (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 1024))
        (br $again))
      (unreachable)))
  (core instance $g (instantiate $guest
    (with "memory" (instance $m))
    (with "host" (instance (export "log.write" (func $log.write))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $g "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
