"""The digits, the scenes made of them, their files, and the pipeline that feeds them to a model."""
