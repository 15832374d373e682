;; A catalyst with the imports that the preview-1 adapter leaves in a Rust build (wasm32-wasip1 with wit-component), in
;; their order and with their types. Its `run` asks for the opened directories, as the adapter does, and returns their
;; number. With an input that begins with a digit it calls `descriptor.get-type` on the handle of that number first.
(component $guest
  (import "cyfr:http/fetch@0.1.0" (instance $fetch
    (export "request" (func (param "json-request" string) (result string)))))
  (import "wasi:cli/environment@0.2.3" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))
  (import "wasi:cli/exit@0.2.3" (instance $exit (export "exit" (func (param "status" (result))))))
  (import "wasi:io/error@0.2.3" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-type))
  (import "wasi:io/streams@0.2.3" (instance $streams
    (export "output-stream" (type $output-stream (sub resource)))
    (alias outer $guest $error-type (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "input-stream" (type $input-stream (sub resource)))
    (export "[method]output-stream.check-write" (func
      (param "self" (borrow $output-stream)) (result (result u64 (error $stream-error)))))
    (export "[method]output-stream.write" (func
      (param "self" (borrow $output-stream)) (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output-stream)) (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]output-stream.blocking-flush" (func
      (param "self" (borrow $output-stream)) (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream-type))
  (alias export $streams "input-stream" (type $input-stream-type))
  (import "wasi:cli/stdin@0.2.3" (instance $stdin
    (alias outer $guest $input-stream-type (type $outer))
    (export "input-stream" (type $stream (eq $outer)))
    (export "get-stdin" (func (result (own $stream))))))
  (import "wasi:cli/stdout@0.2.3" (instance $stdout
    (alias outer $guest $output-stream-type (type $outer))
    (export "output-stream" (type $stream (eq $outer)))
    (export "get-stdout" (func (result (own $stream))))))
  (import "wasi:cli/stderr@0.2.3" (instance $stderr
    (alias outer $guest $output-stream-type (type $outer))
    (export "output-stream" (type $stream (eq $outer)))
    (export "get-stderr" (func (result (own $stream))))))
  (import "wasi:clocks/wall-clock@0.2.3" (instance $clock
    (type $time (record (field "seconds" u64) (field "nanoseconds" u32)))
    (export "datetime" (type (eq $time)))))
  (alias export $clock "datetime" (type $datetime))
  (import "wasi:filesystem/types@0.2.3" (instance $types
    (export "descriptor" (type $descriptor (sub resource)))
    (type $long u64)
    (export "filesize" (type $filesize (eq $long)))
    (alias outer $guest $output-stream-type (type $outer-stream))
    (export "output-stream" (type $output-stream (eq $outer-stream)))
    (type $code (enum "access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota" "exist"
      "file-too-large" "illegal-byte-sequence" "in-progress" "interrupted" "invalid" "io" "is-directory" "loop"
      "too-many-links" "message-size" "name-too-long" "no-device" "no-entry" "no-lock" "insufficient-memory"
      "insufficient-space" "not-directory" "not-empty" "not-recoverable" "unsupported" "no-tty" "no-such-device"
      "overflow" "not-permitted" "pipe" "read-only" "invalid-seek" "text-file-busy" "cross-device"))
    (export "error-code" (type $error-code (eq $code)))
    (type $kind (enum "unknown" "block-device" "character-device" "directory" "fifo" "symbolic-link" "regular-file"
      "socket"))
    (export "descriptor-type" (type $descriptor-type (eq $kind)))
    (export "link-count" (type $link-count (eq $long)))
    (alias outer $guest $datetime (type $outer-time))
    (export "datetime" (type $datetime (eq $outer-time)))
    (type $stat (record (field "type" $descriptor-type) (field "link-count" $link-count) (field "size" $filesize)
      (field "data-access-timestamp" (option $datetime)) (field "data-modification-timestamp" (option $datetime))
      (field "status-change-timestamp" (option $datetime))))
    (export "descriptor-stat" (type $descriptor-stat (eq $stat)))
    (alias outer $guest $error-type (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (export "[method]descriptor.write-via-stream" (func (param "self" (borrow $descriptor))
      (param "offset" $filesize) (result (result (own $output-stream) (error $error-code)))))
    (export "[method]descriptor.append-via-stream" (func (param "self" (borrow $descriptor))
      (result (result (own $output-stream) (error $error-code)))))
    (export "[method]descriptor.get-type" (func (param "self" (borrow $descriptor))
      (result (result $descriptor-type (error $error-code)))))
    (export "[method]descriptor.stat" (func (param "self" (borrow $descriptor))
      (result (result $descriptor-stat (error $error-code)))))
    (export "filesystem-error-code" (func (param "err" (borrow $error)) (result (option $error-code))))))
  (alias export $types "descriptor" (type $descriptor-type))
  (import "wasi:filesystem/preopens@0.2.3" (instance $preopens
    (alias outer $guest $descriptor-type (type $outer))
    (export "descriptor" (type $descriptor (eq $outer)))
    (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))

  (core module $memory
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 4096))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (global.get $next))
      (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -16))))
      (local.get $at)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $get-stderr (canon lower (func $stderr "get-stderr")))
  (core func $get-directories (canon lower (func $preopens "get-directories") (memory $memory) (realloc $realloc)))
  (core func $get-type (canon lower (func $types "[method]descriptor.get-type") (memory $memory)))
  (core func $drop-descriptor (canon resource.drop $descriptor-type))

  (core module $code
    (memory (import "memory" "memory") 2)
    (func $get-stderr (import "host" "get-stderr") (result i32))
    (func $get-directories (import "host" "get-directories") (param i32))
    (func $get-type (import "host" "get-type") (param i32 i32))
    (func $drop-descriptor (import "host" "drop-descriptor") (param i32))
    (data (i32.const 64) "{\22status\22:200,\22data\22:0}")
    (func (export "run") (param $input i32) (param $size i32) (result i32)
      (local $first i32)
      (drop (call $get-stderr))
      (local.set $first (i32.load8_u (local.get $input)))
      (if (i32.and (i32.ge_u (local.get $first) (i32.const 48)) (i32.le_u (local.get $first) (i32.const 57)))
        (then (call $get-type (i32.sub (local.get $first) (i32.const 48)) (i32.const 32))))
      (if (i32.eq (local.get $first) (i32.const 45)) ;; "-": no handle at all
        (then (call $get-type (i32.const -1) (i32.const 32))))
      (if (i32.eq (local.get $first) (i32.const 100)) ;; "d": gives back what it does not have
        (then (call $drop-descriptor (i32.const 7))))
      (call $get-directories (i32.const 16))
      (i32.store8 (i32.const 85) (i32.add (i32.const 48) (i32.load (i32.const 20))))
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const 23))
      (i32.const 0)))
  (core instance $c (instantiate $code
    (with "memory" (instance $m))
    (with "host" (instance
      (export "get-stderr" (func $get-stderr))
      (export "get-directories" (func $get-directories))
      (export "get-type" (func $get-type))
      (export "drop-descriptor" (func $drop-descriptor))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $c "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
