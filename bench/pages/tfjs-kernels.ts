/**
 * Gradient kernels that the WASM backend of TensorFlow.js 4.22 lacks: without them it cannot train
 * a convolution or an embedding at all.  They use what the backend has.
 */

import type { BackendWasm } from "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";

export function addMissingKernels(): void {
  tf.registerKernel({
    kernelName: "Conv2DBackpropFilter", backendName: "wasm", kernelFunc: filterGradient,
  });
  tf.registerKernel({
    kernelName: "UnsortedSegmentSum", backendName: "wasm", kernelFunc: segmentSum,
  });
}

type Kernel = tf.KernelFunc;

/**
 * The filter's gradient is a convolution, too: of the input with the output's gradient, batch and
 * channels changing places, dilated by the stride.
 */
const filterGradient: Kernel = ({ inputs, attrs }) => {
  const { x, dy } = inputs as { x: tf.Tensor4D; dy: tf.Tensor4D };
  const { strides, pad, filterShape } = attrs as unknown as {
    strides: [number, number] | number; pad: "valid" | [number, number][];
    filterShape: [number, number, number, number];
  };
  const [stride] = typeof strides === "number" ? [strides] : strides;
  return tf.tidy(() => {
    const images = tf.transpose(tensor(x), [3, 1, 2, 0]) as tf.Tensor4D;
    const filter = tf.transpose(tensor(dy), [1, 2, 0, 3]) as tf.Tensor4D;
    const padding = typeof pad === "string" ? pad
      : pad as unknown as tf.backend_util.ExplicitPadding;
    const all = tf.conv2d(images, filter, 1, padding, "NHWC", stride, "floor");
    const [height, width, channels, outputs] = filterShape;
    const used = tf.slice(all, [0, 0, 0, 0], [channels, height, width, outputs]);
    return tf.transpose(used, [1, 2, 0, 3]);
  });
};

const segmentSum: Kernel = ({ inputs, attrs, backend }) => {
  const { x, segmentIds } = inputs as { x: tf.TensorInfo; segmentIds: tf.TensorInfo };
  const { numSegments } = attrs as { numSegments: number };
  const wasm = backend as BackendWasm;
  const shape = [numSegments, ...x.shape.slice(1)];
  const width = x.shape.slice(1).reduce((product, n) => product * n, 1);
  const result = wasm.makeOutput(shape, x.dtype);
  const sums = wasm.typedArrayFromHeap(result) as Float32Array;
  const values = wasm.typedArrayFromHeap(x) as Float32Array;
  const rows = wasm.typedArrayFromHeap(segmentIds) as Int32Array;
  sums.fill(0);
  rows.forEach((row, i) => {
    for (let j = 0; j < width; j++) {
      const at = row * width + j;
      sums[at] = (sums[at] ?? 0) + (values[i * width + j] ?? 0);
    }
  });
  return result;
};

function tensor(info: tf.TensorInfo): tf.Tensor {
  return tf.engine().makeTensorFromTensorInfo(info);
}
