;; A component of the shape that componentize-py makes, small: modules of functions that only trap stand for WASI, main
;; calls the host through a shim, and two modules export a `cabi_realloc`. The first letter of the input says what `run`
;; does before it answers; without another answer the input is it.
;;   c, r, e   call a function that traps: the clock's `now`, its `resolution`, stderr's `get-stderr`
;;   l, f, t   call functions of two names in three places: log's `write` and `flush`, and `write` of test:other/log
;;   s, w      answer what streaming's `read` says of the text, and websocket's `receive` of it and the number 300
;;   o         answer y or n, as output's `emit` says of the text
;;   g         answer how many answers were given back
(component
  (type $write (func (param "level" string) (param "message" string)))
  (type $ask (func (param "text" string) (result string)))
  (import "cyfr:http/fetch@0.1.0" (instance (export "request" (func (param "json-request" string) (result string)))))
  (import "test:other/log@0.1.0" (instance $other
    (export "write" (func (param "level" string) (param "message" string)))))
  (import "cyfr:http/streaming@0.1.0" (instance $streaming
    (export "read" (func (param "handle" string) (result string)))
    (export "close" (func (param "handle" string) (result string)))))
  (import "catalyst:host/output@0.1.0" (instance $output
    (export "emit" (func (param "json-event" string) (result bool)))))
  (import "catalyst:host/log@0.1.0" (instance $log
    (export "write" (func (param "level" string) (param "message" string)))
    (export "flush" (func (param "level" string) (param "message" string)))))
  (import "catalyst:host/websocket@0.1.0" (instance $websocket
    (export "receive" (func (param "handle" string) (param "timeout-ms" u32) (result string)))))
  (core module $first (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 7))
  (core module $wit-component:adapter:wasi:clocks/wall-clock@0.2.0
    (func $called-by-nobody unreachable)
    (func (export "now") (param i32) unreachable)
    (func (export "resolution") (param i32) unreachable))
  (core module $wit-component:adapter:wasi:cli/stderr@0.2.0 (func (export "get-stderr") (result i32) unreachable))
  (core module $shim
    (type $four (func (param i32 i32 i32 i32)))
    (type $three (func (param i32 i32 i32)))
    (type $two (func (param i32 i32) (result i32)))
    (table (export "t") 6 6 funcref)
    (func (export "receive") (type $four)
      (call_indirect (type $four) (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 0)))
    (func (export "flush") (type $four)
      (call_indirect (type $four) (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 1)))
    (func (export "other") (type $four)
      (call_indirect (type $four) (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 2)))
    (func (export "write") (type $four)
      (call_indirect (type $four) (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 3)))
    (func (export "emit") (type $two) (call_indirect (type $two) (local.get 0) (local.get 1) (i32.const 4)))
    (func (export "read") (type $three)
      (call_indirect (type $three) (local.get 0) (local.get 1) (local.get 2) (i32.const 5))))
  (core module $fixup
    (import "" "t" (table 6 6 funcref))
    (import "" "receive" (func (param i32 i32 i32 i32)))
    (import "" "flush" (func (param i32 i32 i32 i32)))
    (import "" "other" (func (param i32 i32 i32 i32)))
    (import "" "write" (func (param i32 i32 i32 i32)))
    (import "" "emit" (func (param i32 i32) (result i32)))
    (import "" "read" (func (param i32 i32 i32)))
    (elem (i32.const 0) func 0 1 2 3 4 5))
  (core module $main
    (import "clock" "now" (func $now (param i32)))
    (import "clock" "resolution" (func $resolution (param i32)))
    (import "stderr" "get-stderr" (func $stderr (result i32)))
    (import "host" "receive" (func $receive (param i32 i32 i32 i32)))
    (import "host" "flush" (func $flush (param i32 i32 i32 i32)))
    (import "host" "other" (func $other (param i32 i32 i32 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "emit" (func $emit (param i32 i32) (result i32)))
    (import "host" "read" (func $read (param i32 i32 i32)))
    (memory (export "memory") 1)
    (data (i32.const 1024) "info")
    (global $next (mut i32) (i32.const 4096))
    (global $given-back (mut i32) (i32.const 0))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
      (global.get $next)
      (global.set $next (i32.add (global.get $next) (local.get 3))))
    (func $is (param $at i32) (param $letter i32) (result i32)
      (i32.eq (i32.load8_u (local.get $at)) (local.get $letter)))
    (func (export "cyfr:catalyst/run@0.1.0#run") (param $at i32) (param $size i32) (result i32)
      (i32.store (i32.const 512) (local.get $at))
      (i32.store (i32.const 516) (local.get $size))
      (if (call $is (local.get $at) (i32.const 0x63)) (then (call $now (i32.const 600))))
      (if (call $is (local.get $at) (i32.const 0x72)) (then (call $resolution (i32.const 600))))
      (if (call $is (local.get $at) (i32.const 0x65)) (then (drop (call $stderr))))
      (if (call $is (local.get $at) (i32.const 0x6c)) (then
        (call $write (i32.const 1024) (i32.const 4) (local.get $at) (local.get $size))))
      (if (call $is (local.get $at) (i32.const 0x66)) (then
        (call $flush (i32.const 1024) (i32.const 4) (local.get $at) (local.get $size))))
      (if (call $is (local.get $at) (i32.const 0x74)) (then
        (call $other (i32.const 1024) (i32.const 4) (local.get $at) (local.get $size))))
      (if (call $is (local.get $at) (i32.const 0x73)) (then
        (call $read (local.get $at) (local.get $size) (i32.const 512))))
      (if (call $is (local.get $at) (i32.const 0x77)) (then
        (call $receive (local.get $at) (local.get $size) (i32.const 300) (i32.const 512))))
      (if (call $is (local.get $at) (i32.const 0x6f)) (then
        (i32.store8 (local.get $at)
          (select (i32.const 0x79) (i32.const 0x6e) (call $emit (local.get $at) (local.get $size))))))
      (if (call $is (local.get $at) (i32.const 0x67)) (then
        (i32.store8 (local.get $at) (i32.add (i32.const 0x30) (global.get $given-back)))))
      (i32.const 512))
    (func (export "cabi_post_cyfr:catalyst/run@0.1.0#run") (param i32)
      (global.set $given-back (i32.add (global.get $given-back) (i32.const 1)))))
  (core instance (instantiate $first))
  (core instance $clock (instantiate 1))
  (core instance $stderr (instantiate 2))
  (core instance $shim (instantiate $shim))
  (core instance $m (instantiate $main
    (with "clock" (instance $clock)) (with "stderr" (instance $stderr)) (with "host" (instance $shim))))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $receive (canon lower (func $websocket "receive") (memory (core memory $memory)) (realloc (core func $realloc))))
  (core func $flush (canon lower (func $log "flush") (memory (core memory $memory))))
  (core func $other (canon lower (func $other "write") (memory (core memory $memory))))
  (core func $write (canon lower (func $log "write") (memory (core memory $memory))))
  (core func $emit (canon lower (func $output "emit") (memory (core memory $memory))))
  (core func $read (canon lower (func $streaming "read") (memory (core memory $memory)) (realloc (core func $realloc))))
  (core instance (instantiate $fixup (with "" (instance
    (export "t" (table $shim "t"))
    (export "receive" (func $receive)) (export "flush" (func $flush)) (export "other" (func $other))
    (export "write" (func $write)) (export "emit" (func $emit)) (export "read" (func $read))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $m "cyfr:catalyst/run@0.1.0#run") (memory (core memory $memory)) (realloc (core func $realloc))
      (post-return (core func $m "cabi_post_cyfr:catalyst/run@0.1.0#run"))))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
