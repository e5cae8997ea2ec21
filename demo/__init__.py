"""The image Q&A page."""
