"""Where chat templates differ from transformers."""

# Where we do differ, and how. The test fails when one of these no longer does.
DIFFERENCES = {
    "{{ 2 ** 130 }}": "integers have at most 127 bits; a larger one is an error",
    "{{ 'a b' | wordwrap(1) }}": "the filters wordwrap, urlize, pprint and random are missing",
    "{{ 'a'.translate({97: 'b'}) }}": "the methods encode, translate and maketrans of strings are missing, and those "
                                      "of numbers",
    "{{ '\\N{DIGIT ONE}' }}": "characters by name (\\N) are not read",
    "{{ lipsum(1) is string }}": "the global lipsum is missing",
    "{% block b %}x{% endblock %}{{ self.b() }}": "blocks cannot be called by self",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}": "autoescape cannot be switched on",
    "{{ ['\u0378'] }}": "in a printed list, characters that Unicode has not assigned are not escaped",
    "{{ 'ⓐ'.isalpha() }}": "a few rare characters count as letters here",
    "{{ (-8) ** 0.5 }}": "complex numbers are an error",
    "{% set n = 2 %}{{ -2 ** n }}": "a negative number before ** is its base; with a variable behind it, "
                                    "jinja2 gives -(2 ** n)",
    "{% for x in [1] %}{{ messages is defined }}{% endfor %}{% set messages = 1 %}":
        "a variable of the chat that the template sets further down is not there for jinja2 in a loop, macro or block "
        "before that",
    "{{ 5[1:] }}": "a slice of what has no items is an error, also where it is constant",
    "{{ {1: 2}.keys() - [1] }}": "the views of dictionaries cannot be subtracted",
    "{{ ('<' | e).split() }}": "the parts of an escaped string are plain strings",
    "{{ [1, 'a'] | select('gt', 0) | first }}": "map, select and their kin work on all items at once, so that a later "
                                                "one can fail",
    ("{% set ns = namespace(n=0) %}{% for x in [1, 2] if ns.n == 0 %}{% set ns.n = 1 %}{{ loop.index }}"
     "{% endfor %}"): "the if of a loop whose body uses `loop` is asked for all items before the first",
    "{{ (messages[0].get | string)[:9] }}": "functions, methods and generators print without an address",
    "{% for x in [] %}{{ x | nope }}{% endfor %}": "an unknown filter or test is an error when it is reached, not when "
                                                   "the template is read",
}
