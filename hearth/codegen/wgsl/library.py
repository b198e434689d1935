"""WGSL functions that generated kernels call; a module carries only those it needs.

Why they exist: WGSL promises little about its own functions (`exp` errs by 3 + 2|x| units in the
last place, `log` by 2^-21 near 1, `sin` by 2^-11), lets compilers assume that no value is NaN or
infinite, and has no literal for either.  Here NaN is recognised by its bits, and the elementary
functions are polynomials (Moshier's Cephes, single precision), the same on every device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FUNCTIONS = """
// The float with these bits: WGSL has no literals for infinities and NaN.
fn from_bits(bits: u32) -> f32 {
  return bitcast<f32>(bits);
}

fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn maximum(a: f32, b: f32) -> f32 {
  return select(select(max(a, b), b, is_nan(b)), a, is_nan(a));
}

fn minimum(a: f32, b: f32) -> f32 {
  return select(select(min(a, b), b, is_nan(b)), a, is_nan(a));
}

// x * 2^n for -252 <= n <= 254, in two factors so that neither leaves the range.
fn scale_by_power(x: f32, n: i32) -> f32 {
  let half = n / 2;
  let first = bitcast<f32>(u32(half + 127) << 23u);
  let second = bitcast<f32>(u32(n - half + 127) << 23u);
  return x * first * second;
}

fn exponential(x: f32) -> f32 {
  let bounded = clamp(x, -104.0, 89.0);
  let n = round(bounded * 1.4426950408889634);
  let r = (bounded - n * 0.693359375) + n * 2.12194440e-4;
  var p = 1.9875691500e-4;
  p = p * r + 1.3981999507e-3;
  p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2;
  p = p * r + 1.6666665459e-1;
  p = p * r + 5.0000001201e-1;
  return select(scale_by_power(p * r * r + r + 1.0, i32(n)), x, is_nan(x));
}

// log(1 + m) for |m| < 0.42 or so, plus `exponent` times log 2.
fn logarithm_series(m: f32, exponent: f32) -> f32 {
  let z = m * m;
  var p = 7.0376836292e-2;
  p = p * m - 1.1514610310e-1;
  p = p * m + 1.1676998740e-1;
  p = p * m - 1.2420140846e-1;
  p = p * m + 1.4249322787e-1;
  p = p * m - 1.6668057665e-1;
  p = p * m + 2.0000714765e-1;
  p = p * m - 2.4999993993e-1;
  p = p * m + 3.3333331174e-1;
  let tail = p * m * z - exponent * 2.12194440e-4 - 0.5 * z;
  return m + tail + exponent * 0.693359375;
}

// log(1 + x).  Goldberg's correction of 1 + x does not survive compilers that reassociate.
fn logarithm_of_sum(x: f32) -> f32 {
  let is_near = x > -0.29289 && x < 0.41421;
  return select(logarithm(x + 1.0), logarithm_series(x, 0.0), is_near);
}

fn logarithm(x: f32) -> f32 {
  let is_tiny = x < 1.17549435e-38;
  let bits = bitcast<u32>(select(x, x * 8388608.0, is_tiny));
  var exponent = f32(i32(bits >> 23u) - 126) - select(0.0, 23.0, is_tiny);
  var m = bitcast<f32>((bits & 0x007fffffu) | 0x3f000000u);
  let is_low = m < 0.70710678;
  exponent -= select(0.0, 1.0, is_low);
  m = select(m, m + m, is_low) - 1.0;
  let finite = logarithm_series(m, exponent);
  let all = bitcast<u32>(x);
  let is_special = all >= 0x7f800000u || x == 0.0;
  let pole = select(from_bits(0x7fc00000u), from_bits(0xff800000u), x == 0.0);
  let keeps = is_nan(x) || all == 0x7f800000u;
  return select(finite, select(pole, x, keeps), is_special);
}

// The 32 bits of 2/pi that begin `position` bits after the point.
fn two_over_pi(position: u32) -> u32 {
  var words = array<u32, 8>(0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u,
                            0xdb629599u, 0x3c439041u, 0xfe5163abu, 0xdebbc561u);
  let word = position / 32u;
  let shift = position % 32u;
  let low = select(words[word + 1u] >> (32u - max(shift, 1u)), 0u, shift == 0u);
  return (words[word] << shift) | low;
}

// |x| modulo pi/2 in [-pi/4, pi/4], and the quadrant: Cody and Waite, then Payne and Hanek 1983.
fn reduce_angle(x: f32) -> vec2<f32> {
  let a = abs(x);
  let n = round(a * 0.6366197723675814);
  let near = ((a - n * 1.5703125) - n * 4.837512969970703e-4) - n * 7.549789948768648e-8;
  let bits = bitcast<u32>(a);
  let mantissa = (bits & 0x007fffffu) | 0x00800000u;
  // |x| = mantissa * 2^e: bits of 2/pi before position e - 2 only give multiples of 4.
  let e = max(i32(bits >> 23u) - 150, -29);
  let skip = u32(max(e - 2, 0));
  let shift = u32(max(2 - e, 0));
  let w0 = mantissa * (two_over_pi(skip) >> shift);
  let w1 = (two_over_pi(skip + 32u) >> shift) | ((two_over_pi(skip) << (31u - shift)) << 1u);
  let w2 = (two_over_pi(skip + 64u) >> shift)
         | ((two_over_pi(skip + 32u) << (31u - shift)) << 1u);
  let middle = mantissa * w1;
  let carry = mul_high(mantissa, w2);
  let fraction = middle + carry;
  let top = w0 + mul_high(mantissa, w1) + select(0u, 1u, fraction < middle);
  let rounded = (top + 0x20000000u) & 0xc0000000u;
  let rest = f32(bitcast<i32>(top - rounded)) + f32(fraction) * 2.3283064365386963e-10;
  let far = vec2<f32>(rest * 1.4629180792671596e-9, f32(rounded >> 30u));
  return select(vec2<f32>(near, n), far, a > 2000.0);
}

fn sine_of_quadrant(x: f32, shift: i32) -> f32 {
  let angle = reduce_angle(x);
  let quadrant = i32(angle.y) + shift;
  let r = angle.x;
  let z = r * r;
  let s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r;
  let c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z;
  let value = select(s, c - 0.5 * z + 1.0, (quadrant & 1) == 1);
  let is_finite = (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
  return select(from_bits(0x7fc00000u), select(value, -value, (quadrant & 2) == 2), is_finite);
}

fn sine(x: f32) -> f32 {
  let value = sine_of_quadrant(x, 0);
  return select(value, -value, (bitcast<u32>(x) >> 31u) == 1u);
}

fn cosine(x: f32) -> f32 {
  return sine_of_quadrant(x, 1);
}

// Float to integer: what is out of range saturates, NaN becomes 0.
fn saturate_i32(x: f32) -> i32 {
  let finite = i32(select(x, 0.0, is_nan(x)));
  return select(finite, 2147483647, x >= 2147483648.0);
}

fn saturate_u32(x: f32) -> u32 {
  let finite = u32(select(x, 0.0, is_nan(x)));
  return select(finite, 4294967295u, x >= 4294967296.0);
}

// Integer division by zero counts as division by one.
fn nonzero(divisor: i32) -> i32 {
  return select(divisor, 1, divisor == 0);
}

fn floor_quotient(a: i32, b: i32) -> i32 {
  let quotient = a / nonzero(b);
  return quotient - select(0, 1, a % nonzero(b) != 0 && (a < 0) != (b < 0));
}

fn floor_rest(a: i32, b: i32) -> i32 {
  return a - floor_quotient(a, b) * nonzero(b);
}

fn floor_of_ratio(a: f32, b: f32) -> f32 {
  let has_no_rest = (bitcast<u32>(a) & 0x7fffffffu) == 0x7f800000u && b != 0.0;
  return select(floor(a / b), from_bits(0x7fc00000u), has_no_rest);
}

// The upper 32 bits of a product.
fn mul_high(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let cross = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (cross >> 16u);
}

// Philox 4x32-10 (Salmon et al., SC 2011): the word of element `index`.
fn philox(key0: u32, key1: u32, step: u32, stream: u32, index: u32) -> u32 {
  var c = vec4<u32>(index >> 2u, stream, step, 0u);
  var key = vec2<u32>(key0, key1);
  for (var i = 0u; i < 10u; i++) {
    let high = vec2<u32>(mul_high(c.x, 0xd2511f53u), mul_high(c.z, 0xcd9e8d57u));
    c = vec4<u32>(high.y ^ c.y ^ key.x, c.z * 0xcd9e8d57u,
                  high.x ^ c.w ^ key.y, c.x * 0xd2511f53u);
    key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
  }
  return c[index & 3u];
}

// Whether candidate `a` at position `i` precedes `b` at `j`; NaN counts as the largest.
fn is_larger(a: f32, i: i32, b: f32, j: i32) -> bool {
  let ties = a == b || (is_nan(a) && is_nan(b));
  let wins = (a > b && !is_nan(b)) || (is_nan(a) && !is_nan(b));
  return wins || (ties && i < j);
}

fn is_smaller(a: f32, i: i32, b: f32, j: i32) -> bool {
  let ties = a == b || (is_nan(a) && is_nan(b));
  let wins = (a < b && !is_nan(b)) || (is_nan(a) && !is_nan(b));
  return wins || (ties && i < j);
}
"""

_FUNCTION = re.compile(r"(?:^//[^\n]*\n)*^fn (\w+)\(.*?^}", re.MULTILINE | re.DOTALL)

# Name -> text with the comment above it.
FUNCTIONS = {match[1]: match[0].strip() for match in _FUNCTION.finditer(_FUNCTIONS)}

_CALLS = {
    name: {called for called in FUNCTIONS if called != name and f"{called}(" in text}
    for name, text in FUNCTIONS.items()
}


def functions(used: Iterable[str]) -> list[str]:
    """The texts of these functions and of all that they call."""
    needed, queue = set[str](), list(used)
    while queue:
        name = queue.pop()
        if name not in needed:
            needed.add(name)
            queue.extend(_CALLS[name])
    return [text for name, text in FUNCTIONS.items() if name in needed]
