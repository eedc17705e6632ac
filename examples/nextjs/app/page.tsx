import { signedIn } from "@/lib/session";
import { Lab } from "./lab";

// Who is signed in is another one with each request.
export const dynamic = "force-dynamic";

export default async function Page() {
  const user = await signedIn();
  return (
    <main>
      <h1>Lab</h1>
      {user ? <p>Programs run as {user.id}.</p> : <p>Nobody is signed in: set DEMO_USER, see README.md.</p>}
      <Lab />
    </main>
  );
}
