import "../lab-runner.css";

export * from "../standalone.js";
