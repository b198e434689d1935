// kernel: logits
@group(0) @binding(0) var<storage, read_write> p: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(1) @binding(0) var<uniform> sizes: vec4<u32>;
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + thread;
  let batch = sizes.x;
  if (i >= batch * 3u) { return; }
  let row = i / 3u;
  let k = i % 3u;
  var sum = p[12u + k];
  for (var f = 0u; f < 4u; f++) { sum += x[row * 4u + f] * p[k * 4u + f]; }
  out[i] = sum;
}

// kernel: residual
@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<i32>;
@group(0) @binding(2) var<storage, read_write> q: array<f32>;
@group(1) @binding(0) var<uniform> sizes: vec4<u32>;
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + thread;
  let batch = sizes.x;
  if (i >= batch * 3u) { return; }
  let label = y[i / 3u];
  q[i] = select(out[i] - select(0.0, 1.0, label == i32(i % 3u)), 0.0, label < 0);
}

// kernel: loss
@group(0) @binding(0) var<storage, read_write> q: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<i32>;
@group(0) @binding(2) var<storage, read_write> classes: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(1) @binding(0) var<uniform> sizes: vec4<u32>;
fn weight_of(label: i32) -> f32 {
  if (label < 0) { return 0.0; }
  return classes[label];
}
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + thread;
  let batch = sizes.x;
  if (i > 0u) { return; }
  var sum = 0.0;
  for (var j = 0u; j < batch * 3u; j++) { sum += q[j] * q[j] * weight_of(y[j / 3u]); }
  loss[0] = sum / f32(batch * 3u);
}

// kernel: gradient
@group(0) @binding(0) var<storage, read_write> q: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<i32>;
@group(0) @binding(2) var<storage, read_write> classes: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> g: array<f32>;
@group(1) @binding(0) var<uniform> sizes: vec4<u32>;
fn weight_of(label: i32) -> f32 {
  if (label < 0) { return 0.0; }
  return classes[label];
}
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + thread;
  let batch = sizes.x;
  if (i >= 15u) { return; }
  let k = select(i - 12u, i / 4u, i < 12u);
  var sum = 0.0;
  for (var b = 0u; b < batch; b++) {
    var input = 1.0;
    if (i < 12u) { input = x[b * 4u + i % 4u]; }
    sum += q[b * 3u + k] * weight_of(y[b]) * input;
  }
  g[i] = 2.0 * sum / f32(batch * 3u);
}

// kernel: update
@group(0) @binding(0) var<storage, read_write> p: array<f32>;
@group(0) @binding(1) var<storage, read_write> m: array<f32>;
@group(0) @binding(2) var<storage, read_write> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> rate: array<f32>;
@group(0) @binding(4) var<storage, read_write> step: array<i32>;
@group(0) @binding(5) var<storage, read_write> seen: array<i32>;
@group(1) @binding(0) var<uniform> sizes: vec4<u32>;
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + thread;
  let batch = sizes.x;
  if (i == 0u) { step[0] += 1; seen[0] += 1; }
  if (i >= 15u) { return; }
  m[i] = 0.9 * m[i] + g[i];
  p[i] -= rate[0] * m[i];
}
