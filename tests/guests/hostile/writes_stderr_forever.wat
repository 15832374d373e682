;; Writes a line to its standard error without end.
(component $guest
  (import "wasi:io/error@0.2.6" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-type))
  (import "wasi:io/streams@0.2.6" (instance $streams
    (export "output-stream" (type $output-stream (sub resource)))
    (alias outer $guest $error-type (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output-stream)) (param "contents" (list u8))
      (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream-type))
  (import "wasi:cli/stderr@0.2.6" (instance $stderr
    (alias outer $guest $output-stream-type (type $outer-stream))
    (export "output-stream" (type $output-stream (eq $outer-stream)))
    (export "get-stderr" (func (result (own $output-stream))))))

  (core module $memory
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $get-stderr (canon lower (func $stderr "get-stderr")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $memory) (realloc $realloc)))
  (core module $code
    (memory (import "memory" "memory") 1)
    (func $get-stderr (import "host" "get-stderr") (result i32))
    (func $write (import "host" "write") (param i32 i32 i32 i32))
    (data (i32.const 16) "The quick brown fox jumps over the lazy dog.\0a")
    (func (export "run") (param i32 i32) (result i32)
      (local $stream i32)
      (local.set $stream (call $get-stderr))
      (loop $again
        (call $write (local.get $stream) (i32.const 16) (i32.const 45) (i32.const 0))
        (br $again))
      (unreachable)))
  (core instance $g (instantiate $code
    (with "memory" (instance $m))
    (with "host" (instance (export "get-stderr" (func $get-stderr)) (export "write" (func $write))))))

  (func $run (param "input" string) (result string)
    (canon lift (core func $g "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
