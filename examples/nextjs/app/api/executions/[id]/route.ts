import { executionPath, passOn } from "@/lib/codeexec";

type Context = RouteContext<"/api/executions/[id]">;

/** How it stands, or what came of it. */
export async function GET(request: Request, { params }: Context) {
  const { id } = await params;
  return passOn(request, executionPath(id));
}

/** Cancels it. */
export async function DELETE(request: Request, { params }: Context) {
  const { id } = await params;
  return passOn(request, executionPath(id));
}
