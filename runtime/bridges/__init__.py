"""The bus under the trainers that people already have, and under Python's logging.

Each module is imported by itself and needs the library it is named after: `transformers`,
`lightning`, `accelerate`; `logging` needs none.
"""
