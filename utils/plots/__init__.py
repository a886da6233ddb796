"""Images of training and validation, one module per image, drawn without global plot state."""
