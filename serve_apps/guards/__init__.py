"""Safety checks of what comes in and what goes out. Pure; they fail closed where they are called."""
