;; Takes its standard output without end, and gives none of it back.
(component $guest
  (import "wasi:io/streams@0.2.3" (instance $streams (export "output-stream" (type $output-stream (sub resource)))))
  (alias export $streams "output-stream" (type $type))
  (import "wasi:cli/stdout@0.2.3" (instance $stdout
    (alias outer $guest $type (type $outer))
    (export "output-stream" (type $stream (eq $outer)))
    (export "get-stdout" (func (result (own $stream))))))
  (core func $take (canon lower (func $stdout "get-stdout")))
  (core module $code
    (func $take (import "host" "take") (result i32))
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "run") (param i32 i32) (result i32)
      (loop $again
        (drop (call $take))
        (br $again))
      (unreachable)))
  (core instance $c (instantiate $code (with "host" (instance (export "take" (func $take))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $c "run") (memory (core memory $c "memory")) (realloc (core func $c "cabi_realloc"))))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
