"""gallery.html: an evaluation's errors as crops, with the confusion matrix and the curves."""
