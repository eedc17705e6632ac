import "server-only";

/** Who is signed in. */
export interface User {
  /** A name that stays the same, and that nobody else can get. Results and limits belong to it. */
  id: string;
}

/**
 * YOUR OWN AUTHENTICATION GOES HERE.
 *
 * This stand-in takes everybody for the user that DEMO_USER names, and nobody for anybody where it is not set. With
 * Auth.js, for example:
 *
 *     const session = await auth();
 *     return session?.user?.id ? { id: session.user.id } : null;
 *
 * Never take the name from the request itself: whoever can write it can be anybody.
 */
export async function signedIn(): Promise<User | null> {
  const id = process.env.DEMO_USER;
  return id ? { id } : null;
}
