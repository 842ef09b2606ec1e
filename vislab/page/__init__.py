"""The class page: a Vision Transformer that runs inside one HTML file."""
