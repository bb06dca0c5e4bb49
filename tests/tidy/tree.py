"""The tree that the rules look at: {path: text}, with "/" between folders."""
import os


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def read_tree(root):
    """Text files, without build folders, caches and git's own. What is no text (tensors) is there with an empty
    text."""
    tree = {}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders
                            if (not f.startswith(".") or f == ".ci")
                            and f not in ("__pycache__", "shared", "target", "rust-target")
                            and not os.path.exists(os.path.join(folder, f, "CMakeCache.txt")))
        for name in files:
            full = os.path.join(folder, name)
            with open(full, "rb") as file:
                data = file.read(1 << 20)
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError:
                text = ""
            tree[os.path.relpath(full, root).replace(os.sep, "/")] = text
    return tree
