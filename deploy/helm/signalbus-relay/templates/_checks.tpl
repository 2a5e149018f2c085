{{- /* What the schema cannot say in words. */ -}}
{{- define "signalbus-relay.checks" -}}
{{- if and .Values.app .Values.tables }}
{{- fail "Give app or tables, not both: a release relays an application, or tables without one." }}
{{- end }}
{{- if not (or .Values.app .Values.tables) }}
{{- fail "Give app (MODULE:ATTRIBUTE of your application, which has to be in the image) or tables (outbox tables without one)." }}
{{- end }}
{{- $drain := .Values.options.DRAIN_TIMEOUT | default 30 | float64 }}
{{- if and (not .Values.sidecar) (lt (float64 .Values.terminationGracePeriodSeconds) (addf $drain 5.0)) }}
{{- fail (printf "terminationGracePeriodSeconds (%v) has to exceed options.DRAIN_TIMEOUT (%v) by 5 s or more; otherwise bursts in flight are killed and sent again." .Values.terminationGracePeriodSeconds $drain) }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.service.enabled) }}
{{- fail "ingress.enabled needs service.enabled: an Ingress leads to a Service." }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- fail "ingress.host: under which host name is the page reached? Relays refuse requests for names that they do not know." }}
{{- end }}
{{- if .Values.sidecar }}
{{- range $name := list "keda" "service" "ingress" "networkPolicy" "check" }}
{{- if (get $.Values $name).enabled }}
{{- fail (printf "%s.enabled does nothing with sidecar: the pods belong to the application's chart. Switch it off." $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.keda.enabled }}
{{- if gt (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas) }}
{{- fail (printf "keda.minReplicas (%v) is more than keda.maxReplicas (%v)." .Values.keda.minReplicas .Values.keda.maxReplicas) }}
{{- end }}
{{- if gt (mul .Values.keda.threshold .Values.keda.maxReplicas) 10000 }}
{{- fail (printf "keda.threshold x keda.maxReplicas (%v) is more than 10000, where a relay stops counting: all %v relays would never be started." (mul .Values.keda.threshold .Values.keda.maxReplicas) .Values.keda.maxReplicas) }}
{{- end }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
{{- fail "serviceAccount.name: without serviceAccount.create, which account is to be used? \"default\" is one." }}
{{- end }}
{{- end -}}

{{- /* Whether an object of a kind that an operator brings is made: with auto, where the cluster knows the kind. */ -}}
{{- define "signalbus-relay.wanted" -}}
{{- if eq (toString .enabled) "auto" -}}
{{- if .capabilities.APIVersions.Has .kind }}yes{{ end -}}
{{- else if .enabled -}}yes
{{- end -}}
{{- end -}}
