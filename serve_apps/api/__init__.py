"""OpenAI's HTTP: routes, strict request models, responses, streams, limits."""
