"""The data set `synthetic_voc`: drawn images with exact masks."""
