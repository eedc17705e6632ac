// Where the build begins: the stylesheet is found through it, and the types of the package know nothing of it.
import "../lab-runner.css";

export * from "../index.js";
