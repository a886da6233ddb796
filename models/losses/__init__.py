"""The training loss: assignment, box, objectness and class terms, distillation."""
