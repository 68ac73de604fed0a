#!/usr/bin/env python3
"""Lists the public API of the crate, one item a line, from rustdoc's JSON.

    public_api.py target/doc/nats_blocking.json

The JSON is unstable: what this script does not know it prints as it is, so that a change of the
compiler shows up as a difference and not as a hole.
"""

import json
import sys


def last(path):
    """The name at the end of a path."""
    return path.split("::")[-1].split("<")[0]


def join(parts, between=", "):
    return between.join(part for part in parts if part)


# What the compilers give that this script was tried with.
FORMATS = range(40, 61)


class Renderer:
    """Types, bounds and signatures as Rust text."""

    def type(self, value):
        if value is None:
            return "()"
        if isinstance(value, str):
            return value
        (kind, inner), = value.items()
        render = getattr(self, "type_" + kind, None)
        return render(inner) if render else json.dumps(value, sort_keys=True)

    def type_resolved_path(self, inner):
        return last(inner["path"]) + self.arguments(inner.get("args"))

    def type_dyn_trait(self, inner):
        bounds = [self.poly_trait(bound) for bound in inner["traits"]]
        return "dyn " + join(bounds + [inner.get("lifetime") or ""], " + ")

    def type_generic(self, inner):
        return inner

    def type_primitive(self, inner):
        return inner

    def type_tuple(self, inner):
        end = "," if len(inner) == 1 else ""
        return "(" + join(self.type(part) for part in inner) + end + ")"

    def type_slice(self, inner):
        return "[" + self.type(inner) + "]"

    def type_array(self, inner):
        return f"[{self.type(inner['type'])}; {inner['len']}]"

    def type_impl_trait(self, inner):
        return "impl " + join((self.bound(bound) for bound in inner), " + ")

    def type_borrowed_ref(self, inner):
        lifetime = inner["lifetime"] + " " if inner.get("lifetime") else ""
        mutable = "mut " if inner.get("is_mutable") else ""
        return f"&{lifetime}{mutable}{self.type(inner['type'])}"

    def type_function_pointer(self, inner):
        signature = inner["sig"]
        inputs = join(self.type(kind) for _, kind in signature["inputs"])
        return f"fn({inputs}) -> {self.type(signature['output'])}"

    def type_qualified_path(self, inner):
        self_type = self.type(inner["self_type"])
        trait = inner.get("trait")
        if trait and last(trait["path"]):
            return f"<{self_type} as {self.type_resolved_path(trait)}>::{inner['name']}"
        return f"{self_type}::{inner['name']}"

    def arguments(self, args):
        if not args:
            return ""
        if "parenthesized" in args:
            inside = args["parenthesized"]
            output = inside.get("output")
            result = f" -> {self.type(output)}" if output else ""
            return "(" + join(self.type(kind) for kind in inside["inputs"]) + ")" + result
        inside = args.get("angle_bracketed")
        if inside is None:
            return json.dumps(args, sort_keys=True)
        parts = []
        for arg in inside["args"]:
            if isinstance(arg, str):
                parts.append("_")
                continue
            (kind, value), = arg.items()
            parts.append({"lifetime": lambda v: v, "type": self.type}.get(
                kind, lambda v: json.dumps(v, sort_keys=True))(value))
        for constraint in inside.get("constraints", []):
            (kind, value), = constraint["binding"].items()
            name = constraint["name"]
            if kind == "equality":
                parts.append(f"{name} = {self.type(value['type'])}")
            else:
                parts.append(f"{name}: " + join((self.bound(bound) for bound in value), " + "))
        return "<" + join(parts) + ">" if parts else ""

    def poly_trait(self, bound):
        params = join(self.parameter(param) for param in bound.get("generic_params", []))
        return (f"for<{params}> " if params else "") + self.type_resolved_path(bound["trait"])

    def bound(self, bound):
        (kind, inner), = bound.items()
        if kind == "trait_bound":
            sign = {"maybe": "?", "maybe_const": "~const "}.get(inner.get("modifier"), "")
            return sign + self.poly_trait(inner)
        if kind == "outlives":
            return inner
        if kind == "use":
            return ""
        return json.dumps(bound, sort_keys=True)

    def parameter(self, param):
        (kind, inner), = param["kind"].items()
        if kind == "type" and inner.get("is_synthetic"):
            # An `impl Trait` of the arguments, where it is shown.
            return ""
        if kind == "const":
            return f"const {param['name']}: {self.type(inner['type'])}"
        bounds = join((self.bound(bound) for bound in inner.get("bounds", [])), " + ")
        text = param["name"] + (f": {bounds}" if bounds else "")
        if kind == "type" and inner.get("default"):
            text += " = " + self.type(inner["default"])
        return text

    def generics(self, generics):
        """The parameters, and the where clause."""
        inside = join(self.parameter(param) for param in generics["params"])
        clauses = []
        for predicate in generics["where_predicates"]:
            (kind, inner), = predicate.items()
            if kind == "bound_predicate":
                bounds = join((self.bound(bound) for bound in inner["bounds"]), " + ")
                clauses.append(f"{self.type(inner['type'])}: {bounds}")
            else:
                clauses.append(json.dumps(predicate, sort_keys=True))
        return f"<{inside}>" if inside else "", " where " + join(clauses) if clauses else ""

    def function(self, name, inner):
        signature, header = inner["sig"], inner["header"]
        params, where = self.generics(inner["generics"])
        inputs = []
        for argument, kind in signature["inputs"]:
            text = self.type(kind)
            if argument == "self":
                text = {"Self": "self", "&Self": "&self", "&mut Self": "&mut self"}.get(
                    text, "self: " + text)
            inputs.append(text)
        output = f" -> {self.type(signature['output'])}" if signature["output"] else ""
        words = [word for word in ("const", "unsafe", "async") if header.get("is_" + word)]
        prefix = "".join(word + " " for word in words)
        return f"{prefix}fn {name}{params}({join(inputs)}){output}{where}"


class Listing:
    """The lines of a crate."""

    def __init__(self, crate):
        self.index = {str(key): item for key, item in crate["index"].items()}
        self.render = Renderer()
        self.lines = set()
        self.seen = set()

    def item(self, key):
        return self.index.get(str(key))

    def add(self, line):
        self.lines.add(line)

    def module(self, key, path):
        for child in self.item(key)["inner"]["module"]["items"]:
            self.member(child, path)

    def member(self, key, path, name=None):
        item = self.item(key)
        if item is None:
            self.add(f"pub use {path}::{name}")
            return
        (kind, inner), = item["inner"].items()
        if kind == "use":
            if inner["is_glob"]:
                self.module(inner["id"], path)
            else:
                self.member(inner["id"], path, inner["name"])
            return
        full = f"{path}::{name or item['name']}"
        if (full, key) in self.seen:
            return
        self.seen.add((full, key))
        flags = "#[non_exhaustive] " if self.non_exhaustive(item) else ""
        if kind == "module":
            self.add(f"pub mod {full}")
            self.module(key, full)
        elif kind == "function":
            self.add("pub " + self.render.function(full, inner))
        elif kind in ("struct", "enum", "union"):
            params, where = self.render.generics(inner["generics"])
            self.add(f"{flags}pub {kind} {full}{params}{where}")
            self.contents(kind, inner, full)
            self.implementations(inner["impls"], full)
        elif kind == "trait":
            params, where = self.render.generics(inner["generics"])
            bounds = join((self.render.bound(bound) for bound in inner["bounds"]), " + ")
            self.add(f"pub trait {full}{params}" + (f": {bounds}" if bounds else "") + where)
            self.associated(inner["items"], full)
            self.foreign(inner["implementations"], full)
        elif kind == "type_alias":
            params, where = self.render.generics(inner["generics"])
            self.add(f"pub type {full}{params} = {self.render.type(inner['type'])}{where}")
        elif kind == "constant":
            self.add(f"pub const {full}: {self.render.type(inner['type'])}")
        else:
            self.add(f"pub {kind} {full} {json.dumps(inner, sort_keys=True)}")

    @staticmethod
    def non_exhaustive(item):
        return any("non_exhaustive" in json.dumps(attr) for attr in item.get("attrs", []))

    def contents(self, kind, inner, full):
        if kind == "enum":
            for key in inner["variants"]:
                variant = self.item(key)
                flags = "#[non_exhaustive] " if self.non_exhaustive(variant) else ""
                self.add(f"{flags}{full}::{variant['name']}" + self.variant(variant))
        elif isinstance(inner.get("kind"), dict):
            self.fields(inner["kind"], full)

    def variant(self, variant):
        kind = variant["inner"]["variant"]["kind"]
        if isinstance(kind, str):
            return ""
        if "tuple" in kind:
            return "(" + join(self.field_type(key) for key in kind["tuple"]) + ")"
        names = (f"{self.item(key)['name']}: {self.field_type(key)}"
                 for key in kind["struct"]["fields"])
        return " { " + join(names) + " }"

    def fields(self, kind, full):
        keys = kind.get("tuple") or kind.get("plain", {}).get("fields", [])
        for key in keys:
            field = self.item(key) if key is not None else None
            if field and field["visibility"] == "public":
                self.add(f"pub {full}::{field['name']}: {self.field_type(key)}")

    def field_type(self, key):
        field = self.item(key) if key is not None else None
        return self.render.type(field["inner"]["struct_field"]) if field else "_"

    def implementations(self, keys, full):
        for key in keys:
            item = self.item(key)
            inner = item["inner"]["impl"] if item else None
            if not inner or inner["is_synthetic"] or inner["blanket_impl"]:
                continue
            if inner["trait"] is None:
                self.associated(inner["items"], full)
            else:
                self.add_impl(inner)

    def foreign(self, keys, full):
        for key in keys:
            item = self.item(key)
            if item and item["crate_id"] == 0 and not item["inner"]["impl"]["is_synthetic"]:
                self.add_impl(item["inner"]["impl"])

    def add_impl(self, inner):
        params, where = self.render.generics(inner["generics"])
        trait = self.render.type_resolved_path(inner["trait"])
        if trait == "StructuralPartialEq":
            return
        sign = "!" if inner.get("is_negative") else ""
        self.add(f"impl{params} {sign}{trait} for {self.render.type(inner['for'])}{where}")

    def associated(self, keys, full):
        for key in keys:
            item = self.item(key)
            if item is None:
                continue
            (kind, inner), = item["inner"].items()
            name = f"{full}::{item['name']}"
            if kind == "function":
                provided = " { … }" if inner.get("has_body") and item["visibility"] == "default" \
                    else ""
                self.add("pub " + self.render.function(name, inner) + provided)
            elif kind == "assoc_const":
                self.add(f"pub const {name}: {self.render.type(inner['type'])}")
            else:
                self.add(f"pub {kind} {name}")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        crate = json.load(file)
    if crate["format_version"] not in FORMATS:
        print(f"rustdoc's JSON has format {crate['format_version']}, this script knows "
              f"{FORMATS[0]} to {FORMATS[-1]}", file=sys.stderr)
        sys.exit(3)
    listing = Listing(crate)
    root = listing.item(crate["root"])
    listing.add(f"pub mod {root['name']}")
    listing.module(crate["root"], root["name"])
    print("\n".join(sorted(listing.lines, key=lambda line: (line.startswith("impl"), line))))


if __name__ == "__main__":
    main()
