"""greedy.py COMPILED EVAL.json [OPTION...]: `quench generate` must write the greedy text that the model's trainer recorded."""

import json
import subprocess
import sys

with open(sys.argv[2]) as file:
    greedy = json.load(file)["greedy"]
prompt, ids = greedy["prompt_ids"], greedy["ids"]
done = subprocess.run(["quench", "generate", sys.argv[1], "--tokens", ",".join(map(str, prompt)),
                       "-n", str(len(ids) - len(prompt)), *sys.argv[3:]], stdout=subprocess.PIPE, check=True, text=True)
assert list(map(int, done.stdout.split(","))) == ids[len(prompt):], done.stdout
