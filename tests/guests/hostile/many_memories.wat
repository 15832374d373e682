;; Has 33 memories of 64 MiB beside its own. Each is within a limit on the size of one; the sum is 2 GiB.
(component
  (core module $memory (memory 1024))
  (component $eleven
    (alias outer 1 $memory (core module $memory))
    (core instance (instantiate $memory)) (core instance (instantiate $memory)) (core instance (instantiate $memory))
    (core instance (instantiate $memory)) (core instance (instantiate $memory)) (core instance (instantiate $memory))
    (core instance (instantiate $memory)) (core instance (instantiate $memory)) (core instance (instantiate $memory))
    (core instance (instantiate $memory)) (core instance (instantiate $memory)))
  (instance (instantiate $eleven)) (instance (instantiate $eleven)) (instance (instantiate $eleven))
  (core module $guest
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (data (i32.const 0) "\10\00\00\00\1a\00\00\00") (data (i32.const 16) "{\22status\22:200,\22data\22:null}")
    (func (export "run") (param i32 i32) (result i32) (i32.const 0)))
  (core instance $m (instantiate $guest))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (func $run (param "input" string) (result string)
    (canon lift (core func $m "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
