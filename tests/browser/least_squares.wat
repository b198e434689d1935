;; Kernels of the least squares model.  Thread t of n takes elements t, t + n, t + 2n, ...
;; PRODUCT and ZERO stand for f32x4.mul, or for relaxed_madd with a zero to add.
(func $at (param $base i32) (param $i i32) (result i32)
  (i32.add (local.get $base) (i32.shl (local.get $i) (i32.const 2))))
(func $weight (param $classes i32) (param $label i32) (result f32)
  (if (result f32) (i32.lt_s (local.get $label) (i32.const 0))
    (then (f32.const 0)) (else (f32.load (call $at (local.get $classes) (local.get $label))))))
(func $logits (param $batch i32) (param $thread i32) (param $threads i32)
    (param $p i32) (param $x i32) (param $out i32) (local $i i32) (local $k i32) (local $t i32)
  (local.set $t (i32.add (i32.load (i32.const 1024))
                         (i32.mul (local.get $thread) (i32.const 64))))
  (local.set $i (local.get $thread))
  (block $done (loop $next
    (br_if $done (i32.ge_u (local.get $i) (i32.mul (local.get $batch) (i32.const 3))))
    (local.set $k (i32.rem_u (local.get $i) (i32.const 3)))
    (v128.store (local.get $t) (PRODUCT
      (v128.load (i32.add (local.get $x)
        (i32.shl (i32.div_u (local.get $i) (i32.const 3)) (i32.const 4))))
      (v128.load (i32.add (local.get $p) (i32.shl (local.get $k) (i32.const 4)))) ZERO))
    (f32.store (call $at (local.get $out) (local.get $i))
      (f32.add (f32.load offset=48 (call $at (local.get $p) (local.get $k)))
        (f32.add
          (f32.add (f32.load (local.get $t)) (f32.load offset=4 (local.get $t)))
          (f32.add (f32.load offset=8 (local.get $t)) (f32.load offset=12 (local.get $t))))))
    (local.set $i (i32.add (local.get $i) (local.get $threads)))
    (br $next))))
(func $residual (param $batch i32) (param $thread i32) (param $threads i32)
    (param $out i32) (param $y i32) (param $q i32) (local $i i32) (local $label i32)
  (local.set $i (local.get $thread))
  (block $done (loop $next
    (br_if $done (i32.ge_u (local.get $i) (i32.mul (local.get $batch) (i32.const 3))))
    (local.set $label
      (i32.load (call $at (local.get $y) (i32.div_u (local.get $i) (i32.const 3)))))
    (f32.store (call $at (local.get $q) (local.get $i))
      (if (result f32) (i32.lt_s (local.get $label) (i32.const 0))
        (then (f32.const 0))
        (else (f32.sub (f32.load (call $at (local.get $out) (local.get $i)))
          (f32.convert_i32_s (i32.eq (local.get $label)
            (i32.rem_u (local.get $i) (i32.const 3))))))))
    (local.set $i (i32.add (local.get $i) (local.get $threads)))
    (br $next))))
(func $loss (param $batch i32) (param $thread i32) (param $threads i32)
    (param $q i32) (param $y i32) (param $classes i32) (param $loss i32)
    (local $i i32) (local $sum f32) (local $v f32)
  (if (local.get $thread) (then (return)))
  (block $done (loop $next
    (br_if $done (i32.ge_u (local.get $i) (i32.mul (local.get $batch) (i32.const 3))))
    (local.set $v (f32.load (call $at (local.get $q) (local.get $i))))
    (local.set $sum (f32.add (local.get $sum) (f32.mul (f32.mul (local.get $v) (local.get $v))
      (call $weight (local.get $classes)
        (i32.load (call $at (local.get $y) (i32.div_u (local.get $i) (i32.const 3))))))))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br $next)))
  (f32.store (local.get $loss) (f32.div (local.get $sum)
    (f32.convert_i32_u (i32.mul (local.get $batch) (i32.const 3))))))
(func $gradient (param $batch i32) (param $thread i32) (param $threads i32)
    (param $q i32) (param $y i32) (param $classes i32) (param $x i32) (param $g i32)
    (local $i i32) (local $b i32) (local $k i32) (local $sum f32)
  (local.set $i (local.get $thread))
  (block $done (loop $next
    (br_if $done (i32.ge_u (local.get $i) (i32.const 15)))
    (local.set $k (if (result i32) (i32.lt_u (local.get $i) (i32.const 12))
      (then (i32.div_u (local.get $i) (i32.const 4)))
      (else (i32.sub (local.get $i) (i32.const 12)))))
    (local.set $sum (f32.const 0))
    (local.set $b (i32.const 0))
    (block $rows (loop $row
      (br_if $rows (i32.ge_u (local.get $b) (local.get $batch)))
      (local.set $sum (f32.add (local.get $sum) (f32.mul
        (f32.mul
          (f32.load (call $at (local.get $q)
            (i32.add (i32.mul (local.get $b) (i32.const 3)) (local.get $k))))
          (call $weight (local.get $classes)
            (i32.load (call $at (local.get $y) (local.get $b)))))
        (if (result f32) (i32.lt_u (local.get $i) (i32.const 12))
          (then (f32.load (call $at (local.get $x) (i32.add
            (i32.mul (local.get $b) (i32.const 4)) (i32.and (local.get $i) (i32.const 3))))))
          (else (f32.const 1))))))
      (local.set $b (i32.add (local.get $b) (i32.const 1)))
      (br $row)))
    (f32.store (call $at (local.get $g) (local.get $i)) (f32.div
      (f32.mul (f32.const 2) (local.get $sum))
      (f32.convert_i32_u (i32.mul (local.get $batch) (i32.const 3)))))
    (local.set $i (i32.add (local.get $i) (local.get $threads)))
    (br $next))))
(func $update (param $batch i32) (param $thread i32) (param $threads i32)
    (param $p i32) (param $m i32) (param $g i32) (param $rate i32) (param $step i32)
    (param $seen i32) (local $i i32) (local $a i32)
  (if (i32.eqz (local.get $thread)) (then
    (i32.store (local.get $step) (i32.add (i32.load (local.get $step)) (i32.const 1)))
    (i32.store (local.get $seen) (i32.add (i32.load (local.get $seen)) (i32.const 1)))))
  (local.set $i (local.get $thread))
  (block $done (loop $next
    (br_if $done (i32.ge_u (local.get $i) (i32.const 15)))
    (local.set $a (call $at (local.get $m) (local.get $i)))
    (f32.store (local.get $a) (f32.add
      (f32.mul (f32.const 0.9) (f32.load (local.get $a)))
      (f32.load (call $at (local.get $g) (local.get $i)))))
    (f32.store (call $at (local.get $p) (local.get $i)) (f32.sub
      (f32.load (call $at (local.get $p) (local.get $i)))
      (f32.mul (f32.load (local.get $rate)) (f32.load (local.get $a)))))
    (local.set $i (i32.add (local.get $i) (local.get $threads)))
    (br $next))))
;; barrier
;; All threads arrive at 1088; the last one moves the generation at 1152 on and wakes the others.
(func $barrier (param $threads i32) (local $generation i32)
  (local.set $generation (i32.atomic.load (i32.const 1152)))
  (if (i32.eq (i32.add (i32.atomic.rmw.add (i32.const 1088) (i32.const 1)) (i32.const 1))
              (local.get $threads))
    (then
      (i32.atomic.store (i32.const 1088) (i32.const 0))
      (drop (i32.atomic.rmw.add (i32.const 1152) (i32.const 1)))
      (drop (memory.atomic.notify (i32.const 1152) (i32.const -1))))
    (else
      (loop $wait
        (if (i32.eq (i32.atomic.load (i32.const 1152)) (local.get $generation))
          (then
            (drop (memory.atomic.wait32
              (i32.const 1152) (local.get $generation) (i64.const -1)))
            (br $wait)))))))
