"""What a checkpoint says, with Python's standard library alone: `zipfile`, and an unpickler that builds no tensor."""

import collections
import json
import pickle
import sys
import zipfile

TENSORS = ("_rebuild_tensor_v2", "_rebuild_parameter")


class Reader(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file)
        self.tensors = 0

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in TENSORS:
            return self.tensor
        if module == "torch" and name.endswith("Storage"):
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def tensor(self, *arguments):
        self.tensors += 1

    def persistent_load(self, identity):
        return None


def read(path):
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as file:
            reader = Reader(file)
            state = reader.load()
    return {"epoch": state["epoch"], "accuracy": state["accuracy"], "keys": list(state), "tensors": reader.tensors}


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(json.dumps(read(path)))
