;; Emits an event of a kilobyte without end.
(component
  (import "catalyst:host/output@0.1.0" (instance $output (export "emit" (func (param "json-event" string) (result bool)))))
  (core module $memory
    (memory (export "memory") 16)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $output.emit (canon lower (func $output "emit") (memory $memory) (realloc $realloc)))
  (core module $guest
    (memory (import "memory" "memory") 16)
    (func $output.emit (import "host" "output.emit") (param i32 i32) (result i32))
    (data (i32.const 16) "\22") (data (i32.const 1039) "\22")
    (func (export "run") (param i32 i32) (result i32)
      (memory.fill (i32.const 17) (i32.const 0x61) (i32.const 1022))
      (loop $again
        (drop (call $output.emit (i32.const 16) (i32.const 1024)))
        (br $again))
      (unreachable)))
  (core instance $g (instantiate $guest
    (with "memory" (instance $m))
    (with "host" (instance (export "output.emit" (func $output.emit))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $g "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
