;; A catalyst with the imports of a Rust one (wasm32-wasip2), which Rust's standard library brings along whether they are
;; used or not. Its `run` looks at the environment, writes a line to standard error and returns a fixed envelope.
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
  (import "wasi:cli/environment@0.2.6" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))
  (import "wasi:cli/exit@0.2.6" (instance $exit (export "exit" (func (param "status" (result))))))
  (import "wasi:cli/stderr@0.2.6" (instance $stderr
    (alias outer $guest $output-stream-type (type $outer-stream))
    (export "output-stream" (type $output-stream (eq $outer-stream)))
    (export "get-stderr" (func (result (own $output-stream))))))
  (import "cyfr:http/fetch@0.1.0" (instance $fetch
    (export "request" (func (param "json-request" string) (result string)))))
  (import "cyfr:secrets/read@0.1.0" (instance $secrets
    (export "get" (func (param "name" string) (result (result string (error string)))))))

  ;; Memory comes first, for the imports to be lowered into. Allocation only ever goes up, as one run needs no more.
  (core module $memory
    (memory (export "memory") 17)
    (global $next (mut i32) (i32.const 4096))
    (func (export "cabi_realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and
        (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16)))
        (then (if
          (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $size) (i32.const 16)))))
          (then (unreachable)))))
      (memory.copy (local.get $at) (local.get $old) (local.get $old-size))
      (local.get $at)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $get-stderr (canon lower (func $stderr "get-stderr")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $memory) (realloc $realloc)))
  (core func $drop-stream (canon resource.drop $output-stream-type))
  (core func $get-environment (canon lower (func $environment "get-environment")
    (memory $memory) (realloc $realloc)))
  (core func $exit (canon lower (func $exit "exit")))
  (core func $fetch (canon lower (func $fetch "request") (memory $memory) (realloc $realloc)))
  (core func $get-secret (canon lower (func $secrets "get") (memory $memory) (realloc $realloc)))

  (core module $code
    (memory (import "memory" "memory") 17)
    (func $get-stderr (import "host" "get-stderr") (result i32))
    (func $write (import "host" "write") (param i32 i32 i32 i32))
    (func $drop-stream (import "host" "drop-stream") (param i32))
    (func $get-environment (import "host" "get-environment") (param i32))
    (func $exit (import "host" "exit") (param i32))
    (func $fetch (import "host" "fetch") (param i32 i32 i32))
    (func $get-secret (import "host" "get-secret") (param i32 i32 i32))

    (data (i32.const 64) "hello from a guest\0a")
    (data (i32.const 128) "{\22status\22:200,\22data\22:{\22environment\22:\22empty\22}}")
    (data (i32.const 256) "{\22status\22:500,\22error\22:{\22type\22:\22environment\22,\22message\22:\22not empty\22}}")
    (data (i32.const 512) "\80\00\00\00\2d\00\00\00") ;; where the first envelope is, and its length
    (data (i32.const 520) "\00\01\00\00\43\00\00\00") ;; the second

    (func (export "run") (param i32 i32) (result i32)
      (local $stream i32)
      (local.set $stream (call $get-stderr))
      (call $write (local.get $stream) (i32.const 64) (i32.const 19) (i32.const 16))
      (call $drop-stream (local.get $stream))
      (if (i32.load8_u (i32.const 16)) (then (call $exit (i32.const 1)))) ;; the write failed
      (call $get-environment (i32.const 32))
      (select (i32.const 520) (i32.const 512) (i32.load (i32.const 36)))))
  (core instance $g (instantiate $code
    (with "memory" (instance $m))
    (with "host" (instance
      (export "get-stderr" (func $get-stderr))
      (export "write" (func $write))
      (export "drop-stream" (func $drop-stream))
      (export "get-environment" (func $get-environment))
      (export "exit" (func $exit))
      (export "fetch" (func $fetch))
      (export "get-secret" (func $get-secret))))))

  (func $run (param "input" string) (result string)
    (canon lift (core func $g "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
