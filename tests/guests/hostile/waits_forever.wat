;; Waits for the end of 500 years. Its data is how many of the two pollables that it polls next are ready: the first is, at
;; once, and the second is in 500 years.
(component $guest
  (import "wasi:io/poll@0.2.3" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $poll "pollable" (type $type))
  (import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock
    (alias outer $guest $type (type $outer))
    (export "pollable" (type $pollable (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (core module $memory
    (memory (export "memory") 2)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $after (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $poll (canon lower (func $poll "poll") (memory $memory) (realloc $realloc)))
  (core module $code
    (memory (import "memory" "memory") 2)
    (func $after (import "host" "after") (param i64) (result i32))
    (func $block (import "host" "block") (param i32))
    (func $poll (import "host" "poll") (param i32 i32 i32))
    (data (i32.const 64) "{\22status\22:200,\22data\22:0}")
    (func (export "run") (param i32 i32) (result i32)
      (call $block (call $after (i64.const 0x7fffffffffffffff)))
      (i32.store (i32.const 32) (call $after (i64.const 0)))
      (i32.store (i32.const 36) (call $after (i64.const 0x7fffffffffffffff)))
      (call $poll (i32.const 32) (i32.const 2) (i32.const 16))
      (i32.store8 (i32.const 85) (i32.add (i32.const 48) (i32.load (i32.const 20))))
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const 23))
      (i32.const 0)))
  (core instance $c (instantiate $code
    (with "memory" (instance $m))
    (with "host" (instance
      (export "after" (func $after)) (export "block" (func $block)) (export "poll" (func $poll))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $c "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
