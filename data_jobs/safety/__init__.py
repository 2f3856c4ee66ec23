"""What must not be asked, and what passages must not say to a model: the same for documents and for questions.

``views`` undoes disguises, ``rules`` looks for what ``rules.yaml`` lists, ``head`` scores a text by its vector. Pure:
what happens to a text that was found is decided by whoever asks (serve_apps/guards, the retriever's passages).
"""
