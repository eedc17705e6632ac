import type { Metadata } from "next";
import type { ReactNode } from "react";
import "@codeexec/lab-runner/style.css";
import "./page.css";

// No icon: browsers would ask for one that is not there.
export const metadata: Metadata = { title: "Lab", icons: { icon: "data:," } };

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
