"""Convert what labelling tools and other data sets write to the layout of the data set `folder`."""
