;; Whether a float32 among the first bytes of memory is not finite; their number is a multiple of 64.
;; Its bits without the sign are then, as a number, at least those of infinity.
;;
;; finite.ts holds these instructions in binary; tests/runtime/test_finite_search.py compares.
(module
  (memory (export "m") 1)
  (func (export "f") (param i32) (result i32)
    (local v128)  ;; the largest, in each lane
    (loop
      (local.set 0 (i32.sub (local.get 0) (i32.const 64)))
      (local.set 1 (i32x4.max_u (i32x4.shl (v128.load (local.get 0)) (i32.const 1)) (local.get 1)))
      (local.set 1 (i32x4.max_u (i32x4.shl (v128.load offset=16 (local.get 0)) (i32.const 1)) (local.get 1)))
      (local.set 1 (i32x4.max_u (i32x4.shl (v128.load offset=32 (local.get 0)) (i32.const 1)) (local.get 1)))
      (local.set 1 (i32x4.max_u (i32x4.shl (v128.load offset=48 (local.get 0)) (i32.const 1)) (local.get 1)))
      (br_if 0 (local.get 0)))
    (v128.any_true (i32x4.ge_u (local.get 1) (i32x4.splat (i32.const 0xff000000))))))
