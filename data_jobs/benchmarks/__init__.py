"""Speed of preparing, embedding and searching, measured beside something else. Behind `plinth bench data|index`."""
