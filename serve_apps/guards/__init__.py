"""Safety checks of what comes in and what goes out. Pure; they fail closed where they are called.

Rules of the guards as shipped (``serve.guards``), each with its action:

========================  ======  ===========================================================================
``encoding``              block   NUL or a lone surrogate: nothing downstream can store or send it
``size``                  block   longer than ``serve.max_prompt_chars``
``control_characters``    redact  control characters (but tab and line ends) and terminal colours are removed
``invisible_characters``  redact  zero-width, bidi and tag characters are removed: hidden text reaches nothing
``<a rule's id>``         block   an injection or a clearly harmful request (``data_jobs/safety/rules.yaml``), in any
                                  disguise; one that is quoted in a question about attacks is flagged and goes on
``pii_<type>``            redact  personal data becomes a placeholder; equal values in one request share one
========================  ======  ===========================================================================
"""
