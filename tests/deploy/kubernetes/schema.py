"""Strict schemas of the kinds in use: what Kubernetes and three operators publish, with unknown fields
refused, which the API server merely drops (a misspelt probe is then no probe).
"""

import json

import jsonschema

ANY_INT_OR_STRING = {"type": ["integer", "string"]}
METADATA = {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
OPAQUE = ("enum", "required", "default")  # values that are no schemas


def strict(schema):
    """`schema` in the words of JSON Schema, without unknown fields where it lists any."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return ANY_INT_OR_STRING
    made = {}
    for key, value in schema.items():
        if key == "properties":
            made[key] = {name: strict(one) for name, one in value.items()}
        elif not key.startswith("x-"):
            made[key] = value if key in OPAQUE else strict(value)
    if "properties" in schema and "additionalProperties" not in schema:
        made["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return made


class Schemas:
    """Of every kind in `folder`: kubernetes-core.json (OpenAPI) and definitions of custom resources."""

    def __init__(self, folder):
        core = json.loads((folder / "kubernetes-core.json").read_text())["definitions"]
        self._definitions = {name: strict(one) for name, one in core.items()}
        self._definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
        self._definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = ANY_INT_OR_STRING
        self._kinds = {}
        self._judged = {}
        for name, one in core.items():
            for kind in one.get("x-kubernetes-group-version-kind", []):
                version = "/".join(filter(None, (kind["group"], kind["version"])))
                self._kinds[version, kind["kind"]] = {"$ref": "#/definitions/" + name}
        for path in folder.glob("*.json"):
            definition = json.loads(path.read_text())
            if definition.get("kind") == "CustomResourceDefinition":
                self._add_custom(definition["spec"])

    def _add_custom(self, spec):
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = METADATA
            self._kinds[spec["group"] + "/" + version["name"], spec["names"]["kind"]] = schema

    def errors(self, one):
        """What is wrong with an object, as [(path of the field, message)]. Equal objects are judged once."""
        text = json.dumps(one, sort_keys=True)
        if text not in self._judged:
            self._judged[text] = list(self._errors(one))
        return self._judged[text]

    def _errors(self, one):
        schema = self._kinds.get((one.get("apiVersion"), one.get("kind")))
        if schema is None:
            yield "kind", f"{one.get('apiVersion')} {one.get('kind')}: no such kind"
            return
        validator = jsonschema.Draft7Validator({**schema, "definitions": self._definitions})
        for error in validator.iter_errors(one):
            yield ".".join(map(str, error.absolute_path)), error.message
