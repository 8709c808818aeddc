"""What a reader may see of a text in HTML, Markdown or LaTeX, whichever it is."""
