"""Renders deploy/kubernetes as `kubectl kustomize` does, for what its kustomizations use: resources and a
namespace. Whatever else one asks for is refused, so that nothing is checked that is not what gets applied.
"""

import yaml

FIELDS = {"apiVersion", "kind", "namespace", "resources"}
CLUSTER_WIDE = {"Namespace"}


class Malformed(Exception):
    """A file that cannot be read as what it should be."""


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that comes twice is a mistake and not a choice."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise Malformed(f"line {key.start_mark.line + 1}: \"{key.value}\" comes twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            return [document for document in yaml.load_all(file, UniqueKeys) if document is not None]
    except (OSError, yaml.YAMLError, Malformed) as error:
        raise Malformed(f"{path}: {error}") from error


def render(folder):
    """The objects of the kustomization in `folder`, a pathlib.Path."""
    path = folder / "kustomization.yaml"
    documents = load(path)
    if len(documents) != 1 or documents[0].get("kind") != "Kustomization":
        raise Malformed(f"{path}: it has to hold one Kustomization")
    kustomization = documents[0]
    unknown = set(kustomization) - FIELDS
    if unknown:
        raise Malformed(f"{path}: {', '.join(sorted(unknown))}: this renderer does not know it")
    objects = []
    for resource in kustomization["resources"]:
        at = (folder / resource).resolve()
        objects.extend(render(at) if at.is_dir() else load(at))
    for one in objects:
        if "namespace" in kustomization and one["kind"] not in CLUSTER_WIDE:
            one["metadata"]["namespace"] = kustomization["namespace"]
    return objects
