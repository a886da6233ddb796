"""Pictures of training and validation, one module per picture, drawn without global plot state."""
