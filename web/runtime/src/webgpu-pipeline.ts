/** A compute pipeline that is compiled once, when it is first needed. */

import { BackendError, InternalError, reasonOf } from "./errors.ts";

export class Pipeline {
  private compiling: Promise<void> | undefined;
  private compiled: GPUComputePipeline | undefined;

  constructor(
    private readonly device: GPUDevice, private readonly label: string,
    private readonly code: string, private readonly layout: GPUPipelineLayout,
  ) {}

  /** What `compile` has made. */
  get value(): GPUComputePipeline {
    if (!this.compiled) throw new InternalError(`the kernel ${this.label} is not compiled`);
    return this.compiled;
  }

  /** BackendError shows the line that was refused. */
  compile(): Promise<void> {
    return this.compiling ??= this.make().then((made) => { this.compiled = made; });
  }

  private async make(): Promise<GPUComputePipeline> {
    const { device, label, code, layout } = this;
    const module = device.createShaderModule({ label, code });
    const compute = { module, entryPoint: "main" };
    try {
      return await device.createComputePipelineAsync({ label, layout, compute });
    } catch (error) {
      const { messages } = await module.getCompilationInfo();
      const first = messages.find(({ type }) => type === "error");
      throw new BackendError(`the kernel ${label} does not compile on this GPU`, {
        why: first ? explain(first, code) : reasonOf(error),
        remedy: "use the wasm backend, and report this with the name of the GPU",
      });
    }
  }
}

/** The message of the compiler with the lines around its place. */
function explain({ lineNum, linePos, message }: GPUCompilationMessage, code: string): string {
  const lines = code.split("\n");
  const first = Math.max(1, lineNum - 2);
  const shown = lines.slice(first - 1, lineNum + 1).map((line, i) => {
    const number = first + i;
    return `${number === lineNum ? ">" : " "}${String(number).padStart(5)} | ${line}`;
  });
  return `line ${String(lineNum)}:${String(linePos)}: ${message}\n${shown.join("\n")}`;
}
