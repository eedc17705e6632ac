/** A program to begin with. */
export interface Example {
  /** What the address says after the `#`. */
  id: string;
  title: string;
  code: string;
  /** What the program reads. */
  stdin?: string;
  /** In seconds, where it is not the server's own. */
  timeout?: number;
}

/** None of them needs what the default policy refuses: `os`, `sys`, `subprocess`, `eval`, `exec`, `compile`. */
export const examples: readonly Example[] = [
  {
    id: "hello",
    title: "Hello, World!",
    code: `print("Hello, World!")
`,
  },
  {
    id: "live",
    title: "Output while it runs",
    code: `import time

for number in range(1, 11):
    print(f"step {number} of 10")
    time.sleep(0.5)

print("done")
`,
  },
  {
    id: "figure",
    title: "A figure",
    code: `import matplotlib.pyplot as plt
import numpy as np

x = np.linspace(0, 4 * np.pi, 400)
plt.figure(figsize=(7, 3.5))
plt.plot(x, np.sin(x), label="sine")
plt.plot(x, np.cos(x), label="cosine")
plt.legend()
plt.title("No savefig is needed")
plt.show()
`,
  },
  {
    id: "table",
    title: "A table",
    code: `import pandas as pd

cities = pd.DataFrame({
    "city": ["Berlin", "Hamburg", "Munich", "Cologne"],
    "people": [3_685_000, 1_862_000, 1_505_000, 1_024_000],
    "km2": [891, 755, 311, 405],
})
cities["per km2"] = (cities["people"] / cities["km2"]).round(1)
print(cities.sort_values("per km2", ascending=False).to_string(index=False))
`,
  },
  {
    id: "exception",
    title: "An exception",
    code: `def divide(numbers, by):
    return [number / by for number in numbers]

print(divide([1, 2, 3], by=2))
print(divide([1, 2, 3], by=0))
`,
  },
  {
    id: "input",
    title: "Reading input",
    stdin: "Ada\n1815\n",
    code: `name = input("Name: ")
year = int(input("Born: "))
print()
print(f"{name} was 20 in {year + 20}.")
`,
  },
  {
    id: "timeout",
    title: "A timeout",
    timeout: 2,
    code: `import time

print("This takes ten seconds, and gets two.")
time.sleep(10)
print("Nobody reads this.")
`,
  },
  {
    id: "file",
    title: "A file to download",
    code: `import csv

# What stands below /code/out at the end comes back.
with open("/code/out/squares.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["number", "square"])
    writer.writerows((number, number**2) for number in range(1, 101))

print("100 rows")
`,
  },
];
