;; Returns what `secrets.get` said: the secret, or its refusal after "refused: ".
(component
  (import "cyfr:secrets/read@0.1.0" (instance $read
    (export "get" (func (param "name" string) (result (result string (error string)))))))
  (core module $memory
    (memory (export "memory") 2)
    (data (i32.const 4087) "refused: ")  ;; what is allocated comes after it
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (core func $get (canon lower (func $read "get") (memory $memory) (realloc $realloc)))
  (core module $guest
    (memory (import "memory" "memory") 2)
    (func $get (import "host" "get") (param i32 i32 i32))
    (data (i32.const 16) "OPENAI_API_KEY")
    (func (export "run") (param i32 i32) (result i32)
      (call $get (i32.const 16) (i32.const 14) (i32.const 0))
      (if (i32.load8_u (i32.const 0)) (then  ;; the case of the result; then come the text's place and its size
        (i32.store (i32.const 4) (i32.sub (i32.load (i32.const 4)) (i32.const 9)))
        (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 9)))))
      (i32.const 4)))
  (core instance $g (instantiate $guest
    (with "memory" (instance $m))
    (with "host" (instance (export "get" (func $get))))))
  (func $run (param "input" string) (result string)
    (canon lift (core func $g "run") (memory $memory) (realloc $realloc)))
  (instance $exported (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $exported)))
